foreach(module buf clock entropy err files hash heap inbox list log map mem nearest notify pool ref rng table text trace units)
    sluice_unit_test(base-${module} SOURCES base_${module}.c LINKS base dep::threads)
endforeach()
