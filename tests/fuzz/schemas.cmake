foreach(family request reply packet)
    sluice_fuzz(NAME schemas-${family} SOURCES schemas_${family}.c LINKS schemas_samples
        GOLDEN ${PROJECT_SOURCE_DIR}/tests/unit/golden/messages.hex PREFIX ${family}-)
endforeach()
sluice_fuzz(NAME schemas-batch SOURCES schemas_batch.c LINKS schemas_samples
    GOLDEN ${PROJECT_SOURCE_DIR}/tests/unit/golden/batches.hex PREFIX batch-)
