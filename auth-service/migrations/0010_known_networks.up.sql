CREATE TABLE known_networks (
    user_id UUID NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    -- An IPv4 address, or the first address of a /64 network of IPv6.
    network TEXT NOT NULL,
    expire_time TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, network)
);

CREATE INDEX known_networks_by_expire_time ON known_networks (expire_time);
