// The ACPI device of a DIMM with Intel's functions, for recordings of the machine intel-dimm (iasl -p ssdt intel-dimm.asl).
// QEMU got it as -acpitable file=ssdt.aml, with an NFIT of one range, one DIMM and one control region.
// It executes what the recordings ask; passphrases are not compared.
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
        Name (SECS, 0x00)
        Name (OVWC, 0x00)
        Method (_DSM, 4, Serialized)
        {
          If (LNotEqual (Arg0, ToUUID ("4309ac30-0d11-11e4-9191-0800200c9a66"))) { Return (Buffer () { 0x00 }) }
          If (LEqual (Arg2, 0)) { Return (Buffer () { 0x77, 0xF4, 0xFF, 0x7F, 0, 0, 0, 0 }) }
          If (LEqual (Arg2, 1))
          {
            Name (SMRT, Buffer (132) { 0 })
            CreateDWordField (SMRT, 4, FLGS)
            CreateByteField (SMRT, 12, HLTH)
            CreateByteField (SMRT, 13, SPRS)
            CreateByteField (SMRT, 14, LIFE)
            CreateWordField (SMRT, 16, MTMP)
            CreateDWordField (SMRT, 20, SCNT)
            CreateByteField (SMRT, 24, AITS)
            CreateByteField (SMRT, 35, SSTA)
            Store (1, AITS)
            Store (0x62F, FLGS)
            Store (0, HLTH)
            Store (100, SPRS)
            Store (3, LIFE)
            Store (0x228, MTMP)
            Store (7, SCNT)
            Store (1, SSTA)
            Return (SMRT)
          }
          If (LEqual (Arg2, 2)) { Return (Buffer (12) { 0 }) }
          If (LEqual (Arg2, 4)) { Return (Buffer () { 0,0,0,0, 0,0,2,0, 0xEC,0x0F,0,0 }) }
          If (LEqual (Arg2, 5))
          {
            Name (LBUF, Buffer (4092) { 0 })
            Return (LBUF)
          }
          If (LEqual (Arg2, 6)) { Return (Buffer () { 0,0,0,0 }) }
          If (LEqual (Arg2, 19))
          {
            Name (SBUF, Buffer (12) { 0 })
            CreateByteField (SBUF, 4, EST)
            CreateByteField (SBUF, 8, STA)
            Store (1, EST)
            Store (SECS, STA)
            Return (SBUF)
          }
          If (LEqual (Arg2, 20)) { Store (Or (SECS, 2), SECS) Return (Buffer () { 0,0,0,0 }) }
          If (LEqual (Arg2, 21)) { If (LEqual (SECS, 2)) { Store (0, SECS) Return (Buffer () { 0,0,0,0 }) } Return (Buffer () { 0x0A,0,0,0 }) }
          If (LEqual (Arg2, 22)) { Store (2, SECS) Return (Buffer () { 0,0,0,0 }) }
          If (LEqual (Arg2, 23)) { If (And (SECS, 2)) { Store (Or (SECS, 8), SECS) Return (Buffer () { 0,0,0,0 }) } Return (Buffer () { 0x0A,0,0,0 }) }
          If (LEqual (Arg2, 24)) { Store (0, SECS) Return (Buffer () { 0,0,0,0 }) }
          If (LEqual (Arg2, 25)) { Store (1, OVWC) Return (Buffer () { 0,0,0,0 }) }
          If (LEqual (Arg2, 26)) { If (OVWC) { Store (0, OVWC) Return (Buffer () { 0x07,0,0x01,0 }) } Return (Buffer () { 0,0,0,0 }) }
          If (LEqual (Arg2, 12))
          {
            Name (FBUF, Buffer (44) { 0 })
            CreateDWordField (FBUF, 28, RUNV)
            Store (0x5395, RUNV)
            Return (FBUF)
          }
          Return (Buffer () { 0x01, 0, 0, 0 })
        }
      }
    }
  }
}
