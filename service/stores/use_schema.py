"""The tables of who used the CPU, which `service.stores.use_tables` fills and asks."""

MIGRATION = """
CREATE TABLE process_window (
    user_id VARCHAR NOT NULL,
    time BIGINT NOT NULL,      -- the end of the window, or of the last that was merged; epoch ms
    seconds DOUBLE NOT NULL,
    core_s DOUBLE NOT NULL,
    busy_s DOUBLE NOT NULL,
    process_beyond_s DOUBLE NOT NULL,
    unit_beyond_s DOUBLE NOT NULL,
    merged BOOLEAN NOT NULL
);
CREATE TABLE process_use (
    user_id VARCHAR NOT NULL,
    time BIGINT NOT NULL,
    kind TINYINT NOT NULL,
    name VARCHAR NOT NULL,
    owner VARCHAR NOT NULL,
    unit VARCHAR NOT NULL,
    command VARCHAR NOT NULL,
    cpu_s DOUBLE NOT NULL,
    more_s DOUBLE NOT NULL,
    resident_bytes BIGINT NOT NULL
);
"""
