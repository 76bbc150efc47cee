"""The ten conditions of benches/t10 once more, for systems that cannot run the SQL `manumit explain` prints.

Each writes the windows in its own words; that they mean the same is shown by their hits, which must be DuckDB's.
"""

HOUR, DAY = 1, 24

# Column that is the key: its features, by name (hours, function, column, filter).
FEATURES = {
    "debtor_account": {
        "burst": (HOUR, "count", None, None),
        "near": (DAY, "count", None, "amount >= 900 AND amount < 1000"),
        "payees": (7 * DAY, "count_distinct", "creditor_account", None),
        "daily": (DAY, "sum", "amount", None),
        "monthly": (30 * DAY, "sum", "amount", None),
        "payments": (30 * DAY, "count", None, None),
        "cities": (HOUR, "count_distinct", "city", "channel IN ('pos', 'atm')"),
    },
    "creditor_account": {
        "senders": (DAY, "count_distinct", "debtor_account", "amount < 100"),
        "inflow": (7 * DAY, "sum", "amount", "channel = 'mobile'"),
        "highest": (7 * DAY, "max", "amount", "channel = 'mobile'"),
        "countries": (30 * DAY, "count_distinct", "country", None),
    },
    "device_id": {
        "payers": (DAY, "count_distinct", "debtor_account", None),
        "smallest": (7 * DAY, "min", "amount", None),
        "largest": (7 * DAY, "max", "amount", None),
        "online": (7 * DAY, "count", None, "method = 'card' AND channel = 'online'"),
    },
}

CONDITIONS = {
    "t10-01-payer-burst-1h": "burst >= 4",
    "t10-02-payer-below-limit-24h": "near >= 2",
    "t10-03-payer-many-payees-7d": "payees >= 60",
    "t10-04-payer-surge": "daily * 2 > monthly AND payments >= 20",
    "t10-05-payee-small-senders-24h": "senders >= 15 AND amount >= 1000",
    "t10-06-payee-instant-7d": "inflow >= 5000 AND highest < 800",
    "t10-07-payee-many-countries-30d": "countries >= 20 AND amount >= 1500",
    "t10-08-device-many-payers-24h": "payers >= 3",
    "t10-09-device-test-then-large-7d": "smallest * 1000 <= largest AND online >= 5",
    "t10-10-payer-two-cities-1h": "cities >= 2",
}

# Columns of the canonical table that the conditions read.
COLUMNS = ["tx_id", "event_time", "debtor_account", "creditor_account", "device_id", "amount", "channel", "method", "country", "city"]


def windows():
    """(key, hours): the features of that window; nine of them."""
    found = {}
    for key, features in FEATURES.items():
        for name, (hours, function, column, where) in features.items():
            found.setdefault((key, hours), []).append((name, function, column, where))
    return found
