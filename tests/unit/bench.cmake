# What the bench computes with: if it is wrong, so is every figure.
foreach(module checkpoints goal hist load pairs peer report server svg verify)
    sluice_unit_test(bench-${module} SOURCES bench_${module}.c LINKS bench dep::jansson dep::lz4)
endforeach()
