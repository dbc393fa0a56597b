"""What waits for a person."""

from page.pieces import Cell, amount, seconds, table, text
from page.words import words


def cases(database, rows):
    """Rows of attention, with the lines that resolve them."""

    def about(row):
        ids = [
            ("order", row.order_id),
            ("gateway", row.gateway),
            ("payment", row.payment_ref),
            ("refund", row.refund_ref),
            ("attempt", row.attempt_ref),
            ("conflict", row.conflict_id),
        ]
        return Cell(
            "\n".join(f"{name} {value}" for name, value in ids if value is not None), row.order_id or "", "text ids"
        )

    cells = [
        [
            text(words(row.kind)),
            about(row),
            amount(database, row.amount, row.currency),
            seconds(row.age),
            text(row.why),
            Cell(row.resolved_by or "", None, "code"),
        ]
        for row in rows
    ]
    return table("cases", ["kind", "which", "amount", "for", "why", "what to do"], cells)
