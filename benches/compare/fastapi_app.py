"""The inventory of flask_app.py in FastAPI: in memory, its input typed, gone when the process ends."""

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI()
inventory = {}


class Item(BaseModel):
    id: str
    name: str
    description: str | None = None
    category: str | None = None
    location: str | None = None
    unit: str | None = None
    quantity: int = 0
    reorder_level: int | None = None
    price: float | None = None


class Change(BaseModel):
    quantity: int


@app.post("/inventory", status_code=201)
async def create(item: Item) -> Item:
    if item.id in inventory:
        raise HTTPException(409, "Item already exists")
    inventory[item.id] = item
    return item


@app.get("/inventory/{item_id}")
async def read(item_id: str) -> Item:
    return find(item_id)


@app.put("/inventory/{item_id}")
async def update(item_id: str, change: Change) -> Item:
    item = find(item_id)
    item.quantity = change.quantity
    return item


@app.delete("/inventory/{item_id}")
async def delete(item_id: str):
    find(item_id)
    del inventory[item_id]


def find(item_id):
    if item_id not in inventory:
        raise HTTPException(404, "Item not found")
    return inventory[item_id]
