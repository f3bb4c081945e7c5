"""The tutorial's inventory: in memory, without validation, gone when the process ends."""

from flask import Flask, jsonify, request

app = Flask(__name__)
inventory = {}


@app.post("/inventory")
def create():
    item = request.get_json()
    if item["id"] in inventory:
        return jsonify(error="Item already exists"), 409
    inventory[item["id"]] = item
    return jsonify(item), 201


@app.get("/inventory/<item_id>")
def read(item_id):
    if item_id not in inventory:
        return jsonify(error="Item not found"), 404
    return jsonify(inventory[item_id])


@app.put("/inventory/<item_id>")
def update(item_id):
    if item_id not in inventory:
        return jsonify(error="Item not found"), 404
    inventory[item_id].update(request.get_json())
    return jsonify(inventory[item_id])


@app.delete("/inventory/<item_id>")
def delete(item_id):
    if item_id not in inventory:
        return jsonify(error="Item not found"), 404
    del inventory[item_id]
    return jsonify(message="Item deleted")
