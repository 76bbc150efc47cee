"""The table `entries` as far as the conditions of benches/t10 read it: every transaction seen from both accounts."""


def entries():
    """Its SELECT over `transactions`."""
    side = "SELECT '{0}' AS direction, {1} AS account, {2} AS counterparty, * FROM transactions WHERE {1} IS NOT NULL"
    return side.format("out", "debtor_account", "creditor_account") + " UNION ALL " + side.format("in", "creditor_account", "debtor_account")
