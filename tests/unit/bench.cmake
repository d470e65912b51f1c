# What the bench computes with: if it is wrong, so is every figure.
foreach(module hist pairs verify)
    sluice_unit_test(bench-${module} SOURCES bench_${module}.c LINKS bench dep::lz4)
endforeach()
