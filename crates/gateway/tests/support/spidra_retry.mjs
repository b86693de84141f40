const res = await fetch(
  `https://api.spidra.io/api/batch/scrape/${batchId}/retry`,
  {
    method: "POST",
    headers: { "x-api-key": "YOUR_API_KEY" },
  }
);
const { retriedCount } = await res.json();
console.log(`${retriedCount} items re-queued`);

// Poll the same batchId until it completes again
