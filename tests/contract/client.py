"""Drives the server at the URL and with the token that are its arguments, by the client that openapi-python-client generated."""

import sys
from io import BytesIO

from stockroom_client import AuthenticatedClient
from stockroom_client.api.inventory import (
    create_item,
    delete_item,
    get_item,
    import_items,
    list_items,
    move_stock,
    patch_item,
)
from stockroom_client.models import ItemChanges, ItemPage, ItemView, NewItem, NewMovement, Problem, Reason, UnitPrice
from stockroom_client.types import File

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])

for number in range(5):
    price = UnitPrice(amount="12.50", currency="EUR")
    new = NewItem(id=f"bolt-{number}", name="Bolt", quantity=number, unit_price=price)
    created = create_item.sync_detailed(client=client, body=new, idempotency_key=f"first-{number}")
    assert created.status_code == 201 and created.headers["etag"] == '"1"', created
    assert isinstance(created.parsed, ItemView) and created.parsed.unit_price == price
    again = create_item.sync_detailed(client=client, body=new, idempotency_key=f"first-{number}")
    assert again.parsed == created.parsed and again.headers["idempotent-replayed"] == "true"

taken = create_item.sync(client=client, body=NewItem(id="bolt-1", name="Bolt"))
assert isinstance(taken, Problem) and taken.status == 409 and taken.errors[0].pointer == "/id"

item = get_item.sync("bolt-1", client=client)
changed = patch_item.sync("bolt-1", client=client, body=ItemChanges(quantity=7, location="A1"), if_match=item.etag)
assert isinstance(changed, ItemView) and (changed.quantity, changed.location, changed.version) == (7, "A1", 2)
late = patch_item.sync("bolt-1", client=client, body=ItemChanges(quantity=8), if_match=item.etag)
assert isinstance(late, Problem) and late.status == 412

moved = move_stock.sync("bolt-1", client=client, body=NewMovement(delta=-1, reason=Reason.SOLD))
assert (moved.item.quantity, moved.entry.reason) == (6, Reason.SOLD)

for number, text in enumerate([b"id,name\nbolt-5,Bolt\n", b'{"id": "bolt-6", "name": "Bolt"}\n']):
    imported = import_items.sync(client=client, body=File(payload=BytesIO(text)))
    assert imported.created == 1, imported
    delete_item.sync_detailed(f"bolt-{5 + number}", client=client)

seen, cursor = [], None
while True:
    arguments = {} if cursor is None else {"cursor": cursor}
    page = list_items.sync(client=client, limit=2, **arguments)
    assert isinstance(page, ItemPage) and 1 <= len(page.items) <= 2
    seen += [item.id for item in page.items]
    cursor = page.next_cursor or None
    if not cursor:
        break
assert seen == [f"bolt-{number}" for number in range(5)], seen

for number in range(5):
    assert delete_item.sync_detailed(f"bolt-{number}", client=client).status_code == 204
assert get_item.sync("bolt-1", client=client).status == 404
