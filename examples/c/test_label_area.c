/* Tests of label_area.c.  They need a machine with a DIMM, whose regions they disable: see the Makefile. */
#include "label_area.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DIMM "/dev/nmem0"
#define REGION "region1" /* the one that /dev/nmem0 is in */
#define REGION_DRIVER "/sys/bus/nd/drivers/nd_region"

static void a_label_area_has_the_size_that_its_firmware_reports(void)
{
	assert(label_area_size(DIMM) == 128 * 1024);
	assert(label_area_size("/dev/nmem9") == -ENOENT);
}

static void a_label_area_that_an_enabled_region_uses_cannot_be_written(void)
{
	char before[16], after[16];

	assert(label_area_read(DIMM, 0, before, sizeof(before)) == 0);
	assert(memcmp(before, "NAMESPACE_INDEX\0", sizeof(before)) == 0);
	assert(label_area_write(DIMM, 0, "no namespace idx", sizeof(before)) == -EBUSY);
	assert(label_area_read(DIMM, 0, after, sizeof(after)) == 0);
	assert(memcmp(before, after, sizeof(after)) == 0);
}

static void a_label_area_of_a_disabled_region_keeps_what_is_written(void)
{
	char bytes[16];

	assert(attribute_write(REGION_DRIVER "/unbind", REGION) == 0);
	assert(label_area_write(DIMM, 64 * 1024, "persistent bytes", sizeof(bytes)) == 0);
	assert(label_area_read(DIMM, 64 * 1024, bytes, sizeof(bytes)) == 0);
	assert(memcmp(bytes, "persistent bytes", sizeof(bytes)) == 0);
	assert(attribute_write(REGION_DRIVER "/unbind", REGION) == -ENODEV);
	assert(attribute_write(REGION_DRIVER "/bind", REGION) == 0);
}

static void an_access_beyond_the_end_is_refused(void)
{
	char bytes[16];

	assert(label_area_read(DIMM, 128 * 1024 - 8, bytes, sizeof(bytes)) == -EIO);
}

int main(void)
{
	a_label_area_has_the_size_that_its_firmware_reports();
	a_label_area_that_an_enabled_region_uses_cannot_be_written();
	a_label_area_of_a_disabled_region_keeps_what_is_written();
	an_access_beyond_the_end_is_refused();
	puts("4 tests passed");
	return 0;
}
