"""The sections of the modules' memory in Linux 5.10, as `module_sections` has those of 6.1.

Names and distances are those of Debian's kernel 5.10.0-32-amd64.
"""

from __future__ import annotations

#: The sections of each module, `NAME:OFFSET` in hexadecimal: those of the memory that it keeps, then those of the
#: memory that the kernel frees once the module is loaded.
SECTIONS = {
    "dax_hmem": (
        ".text:0 .exit.text:110 .note.gnu.build-id:1000 .note.Linux:1024 .rodata:1048 __mcount_loc:1054 "
        ".rodata.str1.1:106c __param:1078 .return_sites:10a0 .orc_unwind:10a8 .orc_unwind_ip:110e .data:2000 "
        ".gnu.linkonce.this_module:2100 .bss:24c0 | .init.text:0 .symtab:1000 .strtab:14f8"
    ),
    "dax_pmem": (
        ".text:0 .exit.text:1f .note.gnu.build-id:1000 .note.Linux:1024 __mcount_loc:1048 .rodata.str1.1:1058 "
        ".return_sites:1061 .orc_unwind:1065 .orc_unwind_ip:1089 .data:2000 .gnu.linkonce.this_module:20c0 | "
        ".init.text:0 .symtab:1000 .strtab:13c0"
    ),
    "dax_pmem_core": (
        ".text:0 .text.unlikely:1f5 .note.gnu.build-id:1000 .note.Linux:1024 __ksymtab_gpl:1048 "
        "__kcrctab_gpl:1054 __ksymtab_strings:1058 .rodata.str1.1:106a __mcount_loc:1095 .return_sites:109d "
        ".orc_unwind:10a1 .orc_unwind_ip:10d1 .gnu.linkonce.this_module:2000 | .symtab:0 .strtab:4f8"
    ),
    "device_dax": (
        ".text:0 .text.unlikely:bbc .exit.text:c6d .note.gnu.build-id:1000 .note.Linux:1024 __ksymtab_gpl:1048 "
        "__kcrctab_gpl:1054 .rodata:1060 __ksymtab_strings:1378 __mcount_loc:1387 .rodata.str1.1:13ff "
        ".rodata.str1.8:1450 .retpoline_sites:158c .return_sites:1594 .orc_unwind:15cc .orc_unwind_ip:182a "
        "__jump_table:2000 __bug_table:3000 .data:3020 .data.once:3198 __dyndbg:31a0 "
        ".gnu.linkonce.this_module:3400 | .init.text:0 .symtab:1000 .strtab:1c30"
    ),
    "kmem": (
        ".text:0 .text.unlikely:327 .exit.text:41b .note.gnu.build-id:1000 .note.Linux:1024 __mcount_loc:1048 "
        ".rodata.str1.8:1068 .rodata.str1.1:117b .return_sites:1192 .orc_unwind:11a6 .orc_unwind_ip:12e4 "
        ".data:2000 .gnu.linkonce.this_module:20c0 .bss:2480 | .init.text:0 .symtab:1000 .strtab:15e8"
    ),
    "libnvdimm": (
        ".text:0 .text.unlikely:128bb .exit.text:12ee8 .altinstr_replacement:12f19 .note.gnu.build-id:13000 "
        ".note.Linux:13024 __ksymtab:13048 __ksymtab_gpl:131e0 __kcrctab:13414 __kcrctab_gpl:1349c "
        ".altinstructions:13558 .rodata:13580 __ksymtab_strings:14a50 __mcount_loc:15073 .rodata.str1.1:15b8b "
        ".smp_locks:16ad4 .rodata.str1.8:16b28 .retpoline_sites:17977 .return_sites:17a0f .orc_unwind:181ff "
        ".orc_unwind_ip:1c5f7 .parainstructions:1f348 __param:1f398 __jump_table:20000 __bug_table:21000 "
        ".data:21780 __dyndbg:22b40 .data.once:240e8 .data..read_mostly:240f9 .gnu.linkonce.this_module:24100 "
        ".bss:244c0 | .init.text:0 .symtab:1000 .strtab:8890"
    ),
    "nd_btt": (
        ".text:0 .text.unlikely:2b58 .exit.text:2d9d .note.gnu.build-id:3000 .note.Linux:3024 __ksymtab:3048 "
        "__kcrctab:3060 .rodata:3080 __ksymtab_strings:31c0 __mcount_loc:31fa .parainstructions:3280 "
        ".rodata.str1.8:3290 .rodata.str1.1:356c .retpoline_sites:377d .return_sites:37c1 .orc_unwind:380d "
        ".orc_unwind_ip:3c99 __jump_table:4000 __bug_table:5000 .data:5060 __dyndbg:5188 .data.once:52a0 "
        ".gnu.linkonce.this_module:52c0 .bss:5680 | .init.text:0 .symtab:1000 .strtab:2080"
    ),
    "nd_e820": (
        ".text:0 .exit.text:15e .note.gnu.build-id:1000 .note.Linux:1024 __mcount_loc:1048 .rodata.str1.1:1068 "
        ".rodata.str1.8:1078 .smp_locks:10ac .return_sites:10b0 .orc_unwind:10bc .orc_unwind_ip:1164 .data:2000 "
        ".gnu.linkonce.this_module:2100 .bss:24c0 | .init.text:0 .symtab:1000 .strtab:14f8"
    ),
    "nd_pmem": (
        ".text:0 .text.unlikely:11d6 .exit.text:1227 .note.gnu.build-id:2000 .note.Linux:2024 .rodata:2060 "
        "__mcount_loc:2160 .rodata.str1.1:2200 .smp_locks:2278 .rodata.str1.8:2280 .return_sites:2303 "
        ".orc_unwind:232b .orc_unwind_ip:2733 __jump_table:3000 __bug_table:4000 .data:4020 __dyndbg:40f0 "
        ".data.once:4128 .gnu.linkonce.this_module:4140 | .init.text:0 .symtab:1000 .strtab:1e88"
    ),
    "nd_virtio": (
        ".text:0 .text.unlikely:39d .note.gnu.build-id:1000 .note.Linux:1024 __ksymtab_gpl:1048 "
        "__kcrctab_gpl:1060 __ksymtab_strings:1068 __mcount_loc:1090 .rodata.str1.1:10a8 .rodata.str1.8:10d0 "
        ".return_sites:114e .orc_unwind:115e .orc_unwind_ip:126c .gnu.linkonce.this_module:2000 | .symtab:0 "
        ".strtab:6c0"
    ),
    "nfit": (
        ".text:0 .text.unlikely:75a1 .exit.text:77cb .note.gnu.build-id:8000 .note.Linux:8024 __ksymtab:8048 "
        "__ksymtab_gpl:8054 __kcrctab:80a8 __kcrctab_gpl:80ac .rodata:80e0 __ksymtab_strings:87b0 "
        "__mcount_loc:8844 .rodata.str1.8:8b00 .rodata.str1.1:9409 .parainstructions:9af0 .smp_locks:9b0c "
        "__param:9bd8 .retpoline_sites:9cc8 .return_sites:9d0c .orc_unwind:9e74 .orc_unwind_ip:b062 "
        "__jump_table:c000 __bug_table:d000 .data:d060 __dyndbg:d658 .data.once:e148 .data..read_mostly:e14d "
        ".gnu.linkonce.this_module:e180 .bss:e540 | .init.text:0 .symtab:1000 .strtab:3b50"
    ),
    "virtio_pmem": (
        ".text:0 .text.unlikely:333 .exit.text:3b6 .note.gnu.build-id:1000 .note.Linux:1024 __mcount_loc:1048 "
        ".rodata.str1.8:1060 .rodata.str1.1:1100 .smp_locks:1124 .rodata:1130 .retpoline_sites:1142 "
        ".return_sites:116a .orc_unwind:116e .orc_unwind_ip:121c .data:2000 .gnu.linkonce.this_module:2100 | "
        ".init.text:0 .symtab:1000 .strtab:15b8"
    ),
}
