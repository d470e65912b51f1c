foreach(module args command lines message out)
    sluice_unit_test(cli-${module} SOURCES cli_${module}.c LINKS cli dep::jansson)
endforeach()
