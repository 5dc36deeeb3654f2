module example.org/pmem

go 1.19
