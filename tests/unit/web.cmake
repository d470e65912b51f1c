sluice_unit_test(web-metrics SOURCES web_metrics.c LINKS http)
sluice_unit_test(web-path SOURCES web_path.c LINKS web)
