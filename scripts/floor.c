/*
 * The floor: a file system in C that does as little as one can.
 *
 * It speaks libfuse's low-level API, waits for requests in read(2), and serves what `scripts/bench` measures on a mount:
 * `attribute`, which is read with direct I/O; `link`; `folder`, with NAMES files; and `disk`, whose bytes are in memory
 * and go through the page cache.  Names and attributes may be cached for a day, as those of a mount may.
 * `scripts/bench` builds it; it ends when it is unmounted.
 */
#include "floor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ATTRIBUTE = FUSE_ROOT_ID + 1, LINK, FOLDER, DISK, FIRST_NAME };
enum { DISK_SIZE = 64 << 20 };

static const fuse_ino_t names = 1000;
static const char text[] = "536870912\n";
static const char target[] = "folder/name0000";
static char disk[DISK_SIZE];

static mode_t mode_of(fuse_ino_t inode)
{
	if (inode == FUSE_ROOT_ID || inode == FOLDER)
		return S_IFDIR | 0755;
	return inode == LINK ? S_IFLNK | 0777 : S_IFREG | 0644;
}

static struct stat attributes_of(fuse_ino_t inode)
{
	return (struct stat){
		.st_ino = inode,
		.st_mode = mode_of(inode),
		.st_nlink = S_ISDIR(mode_of(inode)) ? 2 : 1,
		.st_size = inode == DISK ? DISK_SIZE : S_ISREG(mode_of(inode)) ? 4096 : 0,
	};
}

static void name_of(fuse_ino_t inode, char *name, size_t size)
{
	snprintf(name, size, "name%04lu", (unsigned long)(inode - FIRST_NAME));
}

/* The inode of a name; 0 when there is none. */
static fuse_ino_t inode_of(fuse_ino_t parent, const char *name)
{
	unsigned long number;

	if (parent == FOLDER)
		return sscanf(name, "name%4lu", &number) == 1 && number < names ? FIRST_NAME + number : 0;
	if (!strcmp(name, "attribute"))
		return ATTRIBUTE;
	if (!strcmp(name, "link"))
		return LINK;
	if (!strcmp(name, "disk"))
		return DISK;
	return strcmp(name, "folder") ? 0 : FOLDER;
}

static void floor_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	fuse_ino_t inode = inode_of(parent, name);
	struct fuse_entry_param entry = entry_of(inode);

	if (inode)
		fuse_reply_entry(request, &entry);
	else
		fuse_reply_err(request, ENOENT);
}

static void floor_readlink(fuse_req_t request, fuse_ino_t inode)
{
	(void)inode;
	fuse_reply_readlink(request, target);
}

static void floor_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
	file->direct_io = inode != DISK;
	fuse_reply_open(request, file);
}

static void floor_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *file)
{
	const char *bytes = inode == DISK ? disk : text;
	size_t end = inode == DISK ? DISK_SIZE : strlen(text), rest = offset < (off_t)end ? end - (size_t)offset : 0;

	(void)file;
	fuse_reply_buf(request, rest ? bytes + offset : NULL, rest < size ? rest : size);
}

static void floor_write(fuse_req_t request, fuse_ino_t inode, const char *bytes, size_t size, off_t offset,
			struct fuse_file_info *file)
{
	(void)file;
	if (inode != DISK || offset < 0 || offset + (off_t)size > DISK_SIZE) {
		fuse_reply_err(request, EINVAL);
		return;
	}
	memcpy(disk + offset, bytes, size);
	fuse_reply_write(request, size);
}

static void floor_fsync(fuse_req_t request, fuse_ino_t inode, int datasync, struct fuse_file_info *file)
{
	(void)inode;
	(void)datasync;
	(void)file;
	fuse_reply_err(request, 0);
}

static void floor_readdir(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *file)
{
	char *buffer = malloc(size), name[16];
	size_t used = 0, length;
	struct fuse_entry_param entry;

	(void)file;
	if (!buffer) {
		fuse_reply_err(request, ENOMEM);
		return;
	}
	for (fuse_ino_t position = (fuse_ino_t)offset; inode == FOLDER && position < names; position++) {
		entry = entry_of(FIRST_NAME + position);
		name_of(entry.ino, name, sizeof(name));
		length = fuse_add_direntry_plus(request, buffer + used, size - used, name, &entry, (off_t)position + 1);
		if (length > size - used)
			break;
		used += length;
	}
	fuse_reply_buf(request, buffer, used);
	free(buffer);
}

static const struct fuse_lowlevel_ops operations = {
	.lookup = floor_lookup,
	.getattr = floor_getattr,
	.readlink = floor_readlink,
	.open = floor_open,
	.read = floor_read,
	.write = floor_write,
	.fsync = floor_fsync,
	.flush = floor_flush,
	.readdirplus = floor_readdir,
};

static void serve(struct fuse_session *session)
{
	fuse_session_loop(session);
}

int main(int count, char **words)
{
	if (count != 2) {
		fprintf(stderr, "usage: %s FOLDER\n", words[0]);
		return 2;
	}
	return serve_mount(words[0], words[1], &operations, serve);
}
