"""The driver core: devices, drivers, buses, classes, modules and uevents.  It knows no nvdimm."""
