/*
 * The floor of a listing: a file system in C that serves a copy of a tree of directories, small files and links from memory.
 *
 * Like floor.c it speaks libfuse's low-level API, reads files with direct I/O, and may have names, attributes and the texts
 * of links cached for a day.  `scripts/bench listing` builds it; it ends when it is unmounted.
 */
#include "floor.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Bytes of a file, and nanoseconds. */
enum { LARGEST = 4096, PATIENCE = 50000 };

/* The inode number of a node is its place in the array.  What a directory has is a list: `first`, then `next`. */
struct node {
	char *name, *text;
	size_t size;
	mode_t mode;
	fuse_ino_t first, next;
};

static struct node *nodes;
static fuse_ino_t count, room;

static fuse_ino_t new_node(const char *name, mode_t mode)
{
	if (count == room) {
		room = room ? 2 * room : 1024;
		nodes = realloc(nodes, room * sizeof(*nodes));
		if (!nodes)
			exit(1);
	}
	nodes[count] = (struct node){ .name = strdup(name), .mode = mode };
	return count++;
}

static void keep_text(fuse_ino_t inode, const char *text, ssize_t size)
{
	size = size < 0 ? 0 : size;
	nodes[inode].text = malloc((size_t)size + 1);
	if (!nodes[inode].text)
		exit(1);
	memcpy(nodes[inode].text, text, (size_t)size);
	nodes[inode].text[size] = 0;
	nodes[inode].size = (size_t)size;
}

static void copy_directory(int directory, fuse_ino_t inode)
{
	char text[LARGEST];
	struct dirent *entry;
	struct stat status;
	DIR *entries = fdopendir(directory);

	while (entries && (entry = readdir(entries))) {
		const char *name = entry->d_name;
		fuse_ino_t child;
		int file;

		if (!strcmp(name, ".") || !strcmp(name, "..") || fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW))
			continue;
		child = new_node(name, status.st_mode);
		nodes[child].next = nodes[inode].first;
		nodes[inode].first = child;
		if (S_ISLNK(status.st_mode)) {
			keep_text(child, text, readlinkat(directory, name, text, sizeof(text)));
			continue;
		}
		file = openat(directory, name, O_RDONLY);
		if (file < 0)
			continue;
		if (S_ISDIR(status.st_mode)) {
			copy_directory(file, child);
			continue;
		}
		keep_text(child, text, read(file, text, sizeof(text)));
		close(file);
	}
	closedir(entries);
}

static struct stat attributes_of(fuse_ino_t inode)
{
	return (struct stat){
		.st_ino = inode,
		.st_mode = nodes[inode].mode,
		.st_nlink = S_ISDIR(nodes[inode].mode) ? 2 : 1,
		.st_size = S_ISREG(nodes[inode].mode) ? LARGEST : (off_t)nodes[inode].size,
	};
}

static void tree_init(void *nothing, struct fuse_conn_info *connection)
{
	(void)nothing;
	connection->want |= connection->capable & FUSE_CAP_CACHE_SYMLINKS;
}

static void tree_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .entry_timeout = timeout };
	fuse_ino_t inode = nodes[parent].first;

	while (inode && strcmp(nodes[inode].name, name))
		inode = nodes[inode].next;
	if (inode)
		entry = entry_of(inode);
	fuse_reply_entry(request, &entry);
}

static void tree_readlink(fuse_req_t request, fuse_ino_t inode)
{
	fuse_reply_readlink(request, nodes[inode].text);
}

static void tree_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
	(void)inode;
	file->direct_io = 1;
	fuse_reply_open(request, file);
}

static void tree_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *file)
{
	const struct node *node = &nodes[inode];
	size_t rest = offset < (off_t)node->size ? node->size - (size_t)offset : 0;

	(void)file;
	fuse_reply_buf(request, rest ? node->text + offset : NULL, rest < size ? rest : size);
}

/* An offset is the inode number of the next entry, with a bit that the first one, 0, does not have. */
static void tree_readdir(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *file)
{
	const fuse_ino_t begun = 1UL << 40;
	char *buffer = malloc(size);
	size_t used = 0, length;

	(void)file;
	if (!buffer) {
		fuse_reply_err(request, ENOMEM);
		return;
	}
	inode = offset ? (fuse_ino_t)offset & ~begun : nodes[inode].first;
	for (; inode; inode = nodes[inode].next) {
		struct fuse_entry_param entry = entry_of(inode);
		off_t next = (off_t)(nodes[inode].next | begun);

		length = fuse_add_direntry_plus(request, buffer + used, size - used, nodes[inode].name, &entry, next);
		if (length > size - used)
			break;
		used += length;
	}
	fuse_reply_buf(request, buffer, used);
	free(buffer);
}

static const struct fuse_lowlevel_ops operations = {
	.init = tree_init,
	.lookup = tree_lookup,
	.getattr = floor_getattr,
	.readlink = tree_readlink,
	.open = tree_open,
	.read = tree_read,
	.readdirplus = tree_readdir,
	.flush = floor_flush,
};

/* Like a mount, ask again and again for a while before sleeping: half of the time of a request are wake-ups. */
static void serve(struct fuse_session *session)
{
	struct fuse_buf request = { .mem = NULL };
	struct pollfd file = { .fd = fuse_session_fd(session), .events = POLLIN };
	struct timespec now, asked;

	fcntl(file.fd, F_SETFL, O_NONBLOCK);
	clock_gettime(CLOCK_MONOTONIC, &asked);
	while (!fuse_session_exited(session)) {
		int received = fuse_session_receive_buf(session, &request);

		clock_gettime(CLOCK_MONOTONIC, &now);
		if (received > 0) {
			fuse_session_process_buf(session, &request);
			clock_gettime(CLOCK_MONOTONIC, &asked);
		} else if (received != -EAGAIN && received != -EINTR) {
			break;
		} else if ((now.tv_sec - asked.tv_sec) * 1000000000L + now.tv_nsec - asked.tv_nsec > PATIENCE) {
			poll(&file, 1, -1);
		}
	}
	free(request.mem);
}

int main(int words, char **word)
{
	int tree;

	if (words != 3) {
		fprintf(stderr, "usage: %s TREE FOLDER\n", word[0]);
		return 2;
	}
	new_node("", 0); /* there is no inode 0, and that of the root is 1 */
	tree = open(word[1], O_RDONLY | O_DIRECTORY);
	if (tree < 0)
		return 1;
	copy_directory(tree, new_node("", S_IFDIR | 0755));
	return serve_mount(word[0], word[2], &operations, serve);
}
