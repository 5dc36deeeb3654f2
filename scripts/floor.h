/*
 * What the floors share (floor.c, floor_tree.c): inodes that may be cached for a day, and the session of a mount.
 *
 * A floor defines `attributes_of`, includes this, and calls `serve_mount`.
 */
#define FUSE_USE_VERSION 312

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stddef.h>
#include <sys/stat.h>

static const double timeout = 86400;

static struct stat attributes_of(fuse_ino_t inode);

static struct fuse_entry_param entry_of(fuse_ino_t inode)
{
	return (struct fuse_entry_param){
		.ino = inode,
		.attr = attributes_of(inode),
		.attr_timeout = timeout,
		.entry_timeout = timeout,
	};
}

static void floor_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
	struct stat attributes = attributes_of(inode);

	(void)file;
	fuse_reply_attr(request, &attributes, timeout);
}

/* As on a mount: the kernel sends no more of these, so that close(2) waits for nothing. */
static void floor_flush(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
	(void)inode;
	(void)file;
	fuse_reply_err(request, ENOSYS);
}

/* Mount, serve until the end, and return the exit status. */
static int serve_mount(char *program, const char *folder, const struct fuse_lowlevel_ops *operations,
		       void (*serve)(struct fuse_session *))
{
	struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *session;

	if (fuse_opt_add_arg(&arguments, program) || fuse_opt_add_arg(&arguments, "-odefault_permissions"))
		return 1;
	session = fuse_session_new(&arguments, operations, sizeof(*operations), NULL);
	if (!session || fuse_session_mount(session, folder))
		return 1;
	serve(session);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	fuse_opt_free_args(&arguments);
	return 0;
}
