sluice_unit_test(api-verbs SOURCES api_verbs.c LINKS api)
sluice_unit_test(api-produce SOURCES api_produce.c LINKS api)
