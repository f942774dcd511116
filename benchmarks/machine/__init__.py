"""The machine that is measured: hardware, clocks, power, and what disturbs a measurement."""
