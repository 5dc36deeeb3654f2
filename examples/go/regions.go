// Package pmem is the code under test: it lists the regions of a machine.
package pmem

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Region is a range of persistent memory.
type Region struct {
	Name string
	// Size and Available are in bytes.
	Size, Available uint64
	// DIMMs are the names of those that the range is interleaved over, in the order of their positions.
	DIMMs []string
}

// Regions lists the regions below the mount point of a sysfs, sorted by name.
func Regions(sys string) ([]Region, error) {
	paths, err := filepath.Glob(filepath.Join(sys, "bus/nd/devices/region*"))
	if err != nil {
		return nil, err
	}
	sort.Strings(paths)
	regions := []Region{}
	for _, path := range paths {
		region, err := readRegion(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		regions = append(regions, region)
	}
	return regions, nil
}

func readRegion(path string) (Region, error) {
	region := Region{Name: filepath.Base(path)}
	mappings, err := readNumber(path, "mappings")
	if err != nil {
		return region, err
	}
	for i := uint64(0); i < mappings; i++ {
		mapping, err := os.ReadFile(filepath.Join(path, fmt.Sprintf("mapping%d", i)))
		if err != nil {
			return region, err
		}
		dimm, _, _ := strings.Cut(string(mapping), ",")
		region.DIMMs = append(region.DIMMs, dimm)
	}
	if region.Size, err = readNumber(path, "size"); err != nil {
		return region, err
	}
	region.Available, err = readNumber(path, "available_size")
	return region, err
}

func readNumber(path, name string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(path, name))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 0, 64)
}
