foreach(module exec nursery speech)
    sluice_unit_test(exec-${module} SOURCES exec_${module}.c LINKS exec)
endforeach()
