// Tests of Go code that reads /sys; all run on one machine.
//
// Run them in this folder: nvdimmfs run --machine two-socket-6way -- go test ./...
package pmem

import (
	"errors"
	"os"
	"reflect"
	"syscall"
	"testing"
)

func TestRegionsOfTwoSockets(t *testing.T) {
	regions, err := Regions("/sys")
	if err != nil {
		t.Fatal(err)
	}
	if len(regions) != 2 {
		t.Fatalf("%d regions: %v", len(regions), regions)
	}
	dimms := []string{"nmem0", "nmem1", "nmem2", "nmem3", "nmem4", "nmem5"}
	if !reflect.DeepEqual(regions[0].DIMMs, dimms) {
		t.Errorf("%s is interleaved over %v, want %v", regions[0].Name, regions[0].DIMMs, dimms)
	}
	if want := uint64(6*126) << 30; regions[0].Size != want {
		t.Errorf("%s has %d bytes, want %d", regions[0].Name, regions[0].Size, want)
	}
}

func TestNamespaceWithoutSizeIsRefused(t *testing.T) {
	err := os.WriteFile("/sys/bus/nd/drivers/nd_pmem/bind", []byte("namespace0.0"), 0)
	if !errors.Is(err, syscall.ENODEV) && !errors.Is(err, syscall.ENXIO) {
		t.Errorf("bind: %v", err)
	}
}

func TestNoRegions(t *testing.T) {
	regions, err := Regions(t.TempDir())
	if err != nil || len(regions) != 0 {
		t.Errorf("%v, %v", regions, err)
	}
}
