"""Buses that an ACPI NFIT describes (drivers/acpi/nfit)."""
