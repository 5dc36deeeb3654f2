#!/usr/bin/env bats
# Tests of shell scripts that call ndctl; each test has a machine of its own.
#
# Run them in this folder: bats .

bats_require_minimum_version 1.5.0  # `run -0` and `run !` check the status

setup() {
    eval "$(nvdimmfs start --machine qemu-nfit-labelled)"
}

teardown() {
    nvdimmfs stop
}

# Run a command that finds the test's machine in /sys and /dev.
on_machine() {
    nvdimmfs run --attach "$NVDIMMFS_DIR" -- "$@"
}

@test "a sector namespace has the requested size and its disk" {
    run -0 on_machine ndctl create-namespace --mode sector --size 64M --region region0
    [[ $output == *'"mode":"sector"'* ]]
    [[ $output == *'"blockdev":"pmem0s"'* ]]
    run -0 on_machine ndctl list --namespaces --region region0
    [[ $output == *'"mode":"sector"'* ]]
}

@test "a new machine has no namespaces" {
    run -0 on_machine ndctl list --namespaces
    [ -z "$output" ]
}

@test "a namespace in use is not destroyed without --force" {
    on_machine ndctl create-namespace --mode fsdax --region region1
    run ! on_machine ndctl destroy-namespace namespace1.0
    run -0 on_machine ndctl list --namespaces
    [[ $output == *'"dev":"namespace1.0"'* ]]
}

@test "attributes can be read without ndctl" {
    run -0 cat "$NVDIMMFS_DIR/sys/bus/nd/devices/region0/mappings"
    [ "$output" = 1 ]
}
