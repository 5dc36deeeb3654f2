#include "label_area.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ndctl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int control(const char *dimm, unsigned long request, void *argument)
{
	int file = open(dimm, O_RDWR | O_CLOEXEC);
	int result;

	if (file < 0)
		return -errno;
	result = ioctl(file, request, argument) < 0 ? -errno : 0;
	close(file);
	return result;
}

long label_area_size(const char *dimm)
{
	struct nd_cmd_get_config_size command = { 0 };
	int result = control(dimm, ND_IOCTL_GET_CONFIG_SIZE, &command);

	return result < 0 ? result : (long)command.config_size;
}

int label_area_read(const char *dimm, uint32_t offset, void *bytes, uint32_t length)
{
	struct nd_cmd_get_config_data_hdr *command = calloc(1, sizeof(*command) + length);
	int result;

	if (!command)
		return -ENOMEM;
	command->in_offset = offset;
	command->in_length = length;
	result = control(dimm, ND_IOCTL_GET_CONFIG_DATA, command);
	if (result == 0 && command->status) /* the kernel has passed the command on, and the firmware refused it */
		result = -EIO;
	if (result == 0)
		memcpy(bytes, command->out_buf, length);
	free(command);
	return result;
}

int label_area_write(const char *dimm, uint32_t offset, const void *bytes, uint32_t length)
{
	/* The status follows the bytes. */
	uint32_t status;
	struct nd_cmd_set_config_hdr *command = calloc(1, sizeof(*command) + length + sizeof(status));
	int result;

	if (!command)
		return -ENOMEM;
	command->in_offset = offset;
	command->in_length = length;
	memcpy(command->in_buf, bytes, length);
	result = control(dimm, ND_IOCTL_SET_CONFIG_DATA, command);
	memcpy(&status, command->in_buf + length, sizeof(status));
	if (result == 0 && status)
		result = -EIO;
	free(command);
	return result;
}

int attribute_write(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	int result;

	if (file < 0)
		return -errno;
	result = write(file, text, strlen(text)) < 0 ? -errno : 0;
	close(file);
	return result;
}
