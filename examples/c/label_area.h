/* The code under test: the label area of a DIMM, by the system calls alone. */
#ifndef LABEL_AREA_H
#define LABEL_AREA_H

#include <stddef.h>
#include <stdint.h>

/* The size of a DIMM's label area in bytes; a negative errno when the kernel refuses. */
long label_area_size(const char *dimm);

/* Read or write bytes of the label area; 0, or a negative errno: the kernel's, or EIO when the DIMM's firmware refuses. */
int label_area_read(const char *dimm, uint32_t offset, void *bytes, uint32_t length);
int label_area_write(const char *dimm, uint32_t offset, const void *bytes, uint32_t length);

/* Write a text to an attribute in /sys, once; 0, or a negative errno. */
int attribute_write(const char *path, const char *text);

#endif
