foreach(module args command lines message nursery out speech)
    sluice_unit_test(cli-${module} SOURCES cli_${module}.c LINKS cli dep::jansson)
endforeach()
