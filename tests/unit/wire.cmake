sluice_unit_test(wire-frame SOURCES wire_frame.c LINKS wire)
sluice_unit_test(wire-pipes SOURCES wire_pipes.c LINKS wire)
sluice_unit_test(wire-stream SOURCES wire_stream.c LINKS wire)
