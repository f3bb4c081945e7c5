"""Drives the server at the URL and with the token that are its arguments, by the client that openapi-generator generated."""

import sys

from stockroom_generated import ApiClient, Configuration, InventoryApi, LedgerApi, ReservationsApi
from stockroom_generated.exceptions import ApiException
from stockroom_generated.models import ItemChanges, NewItem, NewMovement, NewReservation, Reason, UnitPrice

client = ApiClient(Configuration(host=sys.argv[1], access_token=sys.argv[2]))
inventory, ledger, reservations = InventoryApi(client), LedgerApi(client), ReservationsApi(client)

price = UnitPrice(amount="12.50", currency="EUR")
screw = NewItem(id="screw-1", name="Screw", quantity=10, unit_price=price, attributes={"colour": "red"})
created = inventory.create_item_with_http_info(screw, idempotency_key="first")
assert created.status_code == 201 and created.headers["etag"] == created.data.etag, created
assert created.data.unit_price == price and created.data.attributes == {"colour": "red"}, created
again = inventory.create_item_with_http_info(screw, idempotency_key="first")
assert again.data == created.data and again.headers["idempotent-replayed"] == "true", again

changed = inventory.patch_item("screw-1", ItemChanges(location="A1"), if_match=created.data.etag)
assert (changed.location, changed.version) == ("A1", 2), changed
try:
    inventory.patch_item("screw-1", ItemChanges(location="B2"), if_match=created.data.etag)
    raise SystemExit("a change under an old entity tag is refused")
except ApiException as refused:
    assert refused.status == 412, refused

moved = inventory.move_stock("screw-1", NewMovement(delta=-3, reason=Reason.SOLD))
assert (moved.item.quantity, moved.entry.reason) == (7, Reason.SOLD), moved
held = reservations.reserve_stock("screw-1", NewReservation(quantity=2, expires_in=60))
assert reservations.fulfil_reservation(held.id).state == "fulfilled"

imported = inventory.import_items(b"id,name\nscrew-2,Screw\n", _content_type="text/csv")
assert imported.created == 1, imported
assert [item.id for item in inventory.list_items(limit=50).items] == ["screw-1", "screw-2"]

entries = ledger.list_ledger().entries
assert [entry.event for entry in entries][:3] == ["created", "updated", "moved"], entries

for id in ["screw-1", "screw-2"]:
    inventory.delete_item(id)
assert inventory.get_summary().items == 0
