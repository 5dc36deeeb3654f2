"""The sections of the modules' memory in Linux 6.12, as `module_sections` has those of 6.1.

Names and distances are those of Debian's kernel 6.12.117+deb12-amd64.
"""

from __future__ import annotations

#: The sections of each module, `NAME:OFFSET` in hexadecimal, by memory (enum mod_mem_type, include/linux/module.h):
#: code, data, constants, and perhaps what is constant once the module is loaded; after || what is freed then.
SECTIONS = {
    "dax_hmem": (
        ".text:0 .exit.text:3c0 | __patchable_function_entries:0 .data:40 .exit.data:1e8 __dyndbg:1f0 "
        ".gnu.linkonce.this_module:240 .bss:740 | .rodata:0 __mcount_loc:24 .rodata.str1.1:54 .rodata.str1.8:e0 "
        "__param:160 .return_sites:188 .call_sites:198 .orc_unwind:214 .orc_unwind_ip:2e0 .note.gnu.property:368 "
        ".note.gnu.build-id:388 .note.Linux:3ac .orc_header:3f0 | __jump_table:0 || .init.text:0 | .init.data:0 "
        ".symtab:8 .strtab:740"
    ),
    "dax_pmem": (
        ".text:0 .exit.text:280 | __patchable_function_entries:0 .data:20 .exit.data:d8 "
        ".gnu.linkonce.this_module:100 | .rodata.str1.1:0 __mcount_loc:34 .return_sites:4c .call_sites:54 "
        ".orc_unwind:94 .orc_unwind_ip:dc .note.gnu.property:110 .note.gnu.build-id:130 .note.Linux:154 "
        ".orc_header:198 || .init.text:0 | .init.data:0 .symtab:8 .strtab:518"
    ),
    "device_dax": (
        ".text:0 .exit.text:d50 | __bug_table:0 __patchable_function_entries:10 .data:a0 .exit.data:1b8 "
        "__dyndbg:1c0 .gnu.linkonce.this_module:400 | .rodata:0 __mcount_loc:300 .rodata.str1.1:378 "
        ".rodata.str1.8:418 .return_sites:55c .call_sites:598 .ibt_endbr_seal:6c0 .orc_unwind:6c4 "
        ".orc_unwind_ip:940 .note.gnu.property:ae8 .note.gnu.build-id:b08 .note.Linux:b2c .orc_header:b70 | "
        "__jump_table:0 || .init.text:0 | .init.data:0 .symtab:8 .strtab:bf0"
    ),
    "kmem": (
        ".text:0 .exit.text:640 | __patchable_function_entries:0 .data:40 .exit.data:140 "
        ".gnu.linkonce.this_module:180 .bss:680 | .rodata.str1.1:0 __mcount_loc:17 .rodata.str1.8:38 "
        ".return_sites:18b .call_sites:19f .orc_unwind:26f .orc_unwind_ip:3e3 .note.gnu.property:4e0 "
        ".note.gnu.build-id:500 .note.Linux:524 .orc_header:568 || .init.text:0 | .init.data:0 .symtab:8 "
        ".strtab:6e0"
    ),
    "libnvdimm": (
        ".text:0 .exit.text:148e0 .altinstr_replacement:14940 | __bug_table:0 __patchable_function_entries:7f8 "
        ".data:1340 .exit.data:2ba8 __dyndbg:2bb0 .data..once:44d8 .data..read_mostly:44ea .static_call_sites:44eb "
        ".gnu.linkonce.this_module:4540 .bss:4a40 | __ksymtab:0 __ksymtab_gpl:180 __kcrctab:39c __kcrctab_gpl:41c "
        ".altinstructions:4d0 .rodata:580 __mcount_loc:1c2f .rodata.str1.1:2747 .smp_locks:3964 "
        ".rodata.str1.8:39d8 __param:4960 .retpoline_sites:4988 .return_sites:4a60 .call_sites:51d4 "
        ".ibt_endbr_seal:6fa8 .orc_unwind:70f0 .orc_unwind_ip:aff0 .note.gnu.property:d9f0 .note.gnu.build-id:da10 "
        ".note.Linux:da34 __ksymtab_strings:da78 .orc_header:e028 | __jump_table:0 || .init.text:0 | .init.data:0 "
        ".symtab:8 .strtab:9b48"
    ),
    "nd_btt": (
        ".text:0 .exit.text:2f10 | __bug_table:0 __patchable_function_entries:58 .data:e0 .exit.data:180 "
        "__dyndbg:188 .data..once:2a0 .static_call_sites:2a7 .gnu.linkonce.this_module:300 .bss:800 | __ksymtab:0 "
        "__kcrctab:18 .rodata:20 __mcount_loc:170 .rodata.str1.1:1d8 .rodata.str1.8:3f0 .rodata.cst2:6f6 "
        ".retpoline_sites:6f8 .return_sites:73c .call_sites:77c .orc_unwind:a68 .orc_unwind_ip:e8e "
        ".note.gnu.property:1158 .note.gnu.build-id:1178 .note.Linux:119c __ksymtab_strings:11e0 .orc_header:121c "
        "| __jump_table:0 || .init.text:0 | .init.data:0 .symtab:8 .strtab:ff8"
    ),
    "nd_e820": (
        ".text:0 .exit.text:1c0 | __patchable_function_entries:0 .data:40 .exit.data:108 "
        ".gnu.linkonce.this_module:140 .bss:640 | __mcount_loc:0 .rodata.str1.1:20 .rodata.str1.8:30 .smp_locks:64 "
        ".return_sites:68 .call_sites:74 .orc_unwind:a4 .orc_unwind_ip:16a .note.gnu.property:1f0 "
        ".note.gnu.build-id:210 .note.Linux:234 .orc_header:278 || .init.text:0 | .init.data:0 .symtab:8 "
        ".strtab:518"
    ),
    "nd_pmem": (
        ".text:0 .exit.text:1640 | __bug_table:0 __patchable_function_entries:10 .data:c0 .exit.data:1c0 "
        ".data..once:1c8 __dyndbg:1d0 .static_call_sites:2b0 .gnu.linkonce.this_module:2c0 | .rodata:0 "
        "__mcount_loc:150 .rodata.str1.1:1e0 .smp_locks:268 .rodata.str1.8:270 .return_sites:3a4 .call_sites:3d4 "
        ".ibt_endbr_seal:604 .orc_unwind:608 .orc_unwind_ip:aa6 .note.gnu.property:dc0 .note.gnu.build-id:de0 "
        ".note.Linux:e04 .orc_header:e48 | __jump_table:0 || .init.text:0 | .init.data:0 .symtab:8 .strtab:1028"
    ),
    "nd_virtio": (
        ".text:0 | __patchable_function_entries:0 .data:20 .static_call_sites:40 .gnu.linkonce.this_module:80 | "
        "__ksymtab_gpl:0 __kcrctab_gpl:18 .rodata.str1.8:20 .rodata.str1.1:c6 __mcount_loc:ee .smp_locks:110 "
        ".rodata:120 .retpoline_sites:132 .return_sites:136 .call_sites:146 .orc_unwind:216 .orc_unwind_ip:35a "
        ".note.gnu.property:438 .note.gnu.build-id:458 .note.Linux:47c __ksymtab_strings:4c0 .orc_header:4e8 || "
        ".symtab:0 .strtab:6a8"
    ),
    "nfit": (
        ".text:0 .altinstr_replacement:78d5 .exit.text:78f0 | __bug_table:0 __patchable_function_entries:48 "
        ".data:300 .exit.data:918 __dyndbg:920 .data..once:11e0 .data..read_mostly:11e5 "
        ".gnu.linkonce.this_module:1200 .bss:1700 | __ksymtab:0 __ksymtab_gpl:c __kcrctab:60 __kcrctab_gpl:64 "
        ".altinstructions:80 .rodata:c0 __mcount_loc:780 .rodata.str1.8:a20 .rodata.str1.1:1229 .smp_locks:18e8 "
        "__param:19a8 .retpoline_sites:1a98 .return_sites:1ad8 .call_sites:1c44 .ibt_endbr_seal:25d8 "
        ".orc_unwind:25f0 .orc_unwind_ip:3676 .note.gnu.property:4180 .note.gnu.build-id:41a0 .note.Linux:41c4 "
        "__ksymtab_strings:4208 .orc_header:429c | __jump_table:0 || .init.text:0 | .init.data:0 .symtab:8 "
        ".strtab:2ee8"
    ),
    "virtio_pmem": (
        ".text:0 .exit.text:5f0 | __bug_table:0 __patchable_function_entries:10 .data:40 .exit.data:140 "
        "__dyndbg:148 .static_call_sites:180 .gnu.linkonce.this_module:1c0 .bss:6c0 | __mcount_loc:0 "
        ".rodata.str1.8:20 .rodata.str1.1:110 .smp_locks:194 .rodata:1a0 .retpoline_sites:1b2 .return_sites:1e6 "
        ".call_sites:1ee .orc_unwind:25a .orc_unwind_ip:31a .note.gnu.property:3a0 .note.gnu.build-id:3c0 "
        ".note.Linux:3e4 .orc_header:428 | __jump_table:0 || .init.text:0 | .init.data:0 .symtab:8 .strtab:6f8"
    ),
}
