import requests

resp = requests.post(
    f"https://api.spidra.io/api/batch/scrape/{batch_id}/retry",
    headers={"x-api-key": "YOUR_API_KEY"},
)
print(f"{resp.json()['retriedCount']} items re-queued")
