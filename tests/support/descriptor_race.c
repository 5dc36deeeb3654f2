/*
 * Calls ioctl(2) on a descriptor that another thread replaces all the time: by a file of a device that this user may
 * not open (O_PATH needs no permission), and by a file of another device that it may open for writing.
 *
 *     descriptor_race DEVICE CALLS
 *
 * Prints how many calls reached the device.  None may.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ND_IOCTL_GET_CONFIG_SIZE (include/uapi/linux/ndctl.h): a status and two sizes come back. */
#define GET_CONFIG_SIZE _IOWR('N', 4, unsigned int[3])

enum { TARGET = 200 };

static volatile int done;
static int forbidden, permitted;

static void *replace(void *unused)
{
	(void)unused;
	while (!done) {
		dup2(forbidden, TARGET);
		dup2(permitted, TARGET);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t replacer;
	int calls, reached = 0;

	if (argc != 3)
		return 2;
	calls = atoi(argv[2]);
	if (open(argv[1], O_RDWR) >= 0 || errno != EACCES) {
		fprintf(stderr, "this user may open %s\n", argv[1]);
		return 2;
	}
	forbidden = open(argv[1], O_PATH);
	permitted = open("/dev/null", O_RDWR);
	if (forbidden < 0 || permitted < 0 || dup2(permitted, TARGET) < 0 ||
	    pthread_create(&replacer, NULL, replace, NULL)) {
		perror("preparation");
		return 2;
	}
	for (int call = 0; call < calls; call++) {
		unsigned int argument[3] = { 0 };

		if (ioctl(TARGET, GET_CONFIG_SIZE, argument) == 0 || argument[1])
			reached++;
	}
	done = 1;
	pthread_join(replacer, NULL);
	printf("%d\n", reached);
	return 0;
}
