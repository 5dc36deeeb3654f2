// The ACPI devices of DIMMs of HPE's first family, of Microsoft's and of Hyper-V's, for recordings of the machine families
// (iasl -p ssdt families.asl).  QEMU got it as -acpitable file=ssdt.aml, with an NFIT of three DIMMs without ranges.
DefinitionBlock ("", "SSDT", 2, "TESTER", "NVDIMMS", 1)
{
  Scope (\_SB)
  {
    Device (NVDR)
    {
      Name (_HID, "ACPI0012")
      Method (_DSM, 4, Serialized) { Return (Buffer () { 0x00 }) }
      Device (NV01)
      {
        Name (_ADR, 0x1)
        Method (_DSM, 4, Serialized)
        {
          If (LNotEqual (Arg0, ToUUID ("9002c334-acf3-4c0e-9642-a235f0d53bc6"))) { Return (Buffer () { 0x00 }) }
          If (LEqual (Arg2, 0)) { Return (Buffer () { 0x07 }) }
          If (LEqual (Arg2, 1))
          {
            Store (DerefOf (Index (Arg3, 0)), Local0)
            CreateDWordField (Local0, 0, WANT)
            Name (SMRT, Buffer (128) { 0 })
            CreateDWordField (SMRT, 4, VALD)
            CreateWordField (SMRT, 9, TEMP)
            CreateByteField (SMRT, 11, SPAR)
            CreateByteField (SMRT, 14, LIFE)
            And (WANT, 0x3F, VALD)
            Store (0x228, TEMP)
            Store (100, SPAR)
            Store (3, LIFE)
            Return (SMRT)
          }
          If (LEqual (Arg2, 2)) { Return (Buffer (36) { 0 }) }
          Return (Buffer () { 0x01, 0, 0, 0 })
        }
      }
      Device (NV02)
      {
        Name (_ADR, 0x2)
        Method (_DSM, 4, Serialized)
        {
          If (LNotEqual (Arg0, ToUUID ("1ee68b36-d4bd-4a1a-9a16-4f8e53d46e05"))) { Return (Buffer () { 0x00 }) }
          If (LEqual (Arg2, 0)) { Return (Buffer () { 0x01, 0x08 }) }
          If (LEqual (Arg2, 11)) { Return (Buffer () { 0, 0, 0, 0, 0, 0, 41, 0, 0, 0, 97, 0, 0 }) }
          Return (Buffer () { 0x01, 0, 0, 0 })
        }
      }
      Device (NV03)
      {
        Name (_ADR, 0x3)
        Method (_DSM, 4, Serialized)
        {
          If (LNotEqual (Arg0, ToUUID ("5746c5f2-a9a2-4264-ad0e-e4ddc9e09e80"))) { Return (Buffer () { 0x00 }) }
          If (LEqual (Arg2, 0)) { Return (Buffer () { 0x07 }) }
          If (LEqual (Arg2, 1)) { Return (Buffer (8) { 0 }) }
          If (LEqual (Arg2, 2)) { Return (Buffer () { 0, 0, 0, 0, 7, 0, 0, 0 }) }
          Return (Buffer () { 0x01, 0, 0, 0 })
        }
      }
    }
  }
}
