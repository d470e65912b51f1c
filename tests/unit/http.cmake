sluice_unit_test(http-metrics SOURCES http_metrics.c LINKS http)
sluice_unit_test(http-path SOURCES http_path.c LINKS http)
