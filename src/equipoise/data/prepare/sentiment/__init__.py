"""CMU-MOSI and CMU-MOSEI: their files, and how they become targets and arrays."""
