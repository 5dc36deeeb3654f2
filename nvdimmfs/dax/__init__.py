"""Device dax: memory that user space maps through a character device, as in drivers/dax."""
