async function runWithRetry(urls, options, maxAttempts = 3) {
  // Submit the initial batch
  const submit = await fetch("https://api.spidra.io/api/batch/scrape", {
    method: "POST",
    headers: {
      "x-api-key": "YOUR_API_KEY",
      "Content-Type": "application/json",
    },
    body: JSON.stringify({ urls, ...options }),
  });
  const { batchId } = await submit.json();

  for (let attempt = 1; attempt <= maxAttempts; attempt++) {
    // Poll until terminal
    let data;
    while (true) {
      const res = await fetch(
        `https://api.spidra.io/api/batch/scrape/${batchId}`,
        { headers: { "x-api-key": "YOUR_API_KEY" } }
      );
      data = await res.json();
      if (["completed", "failed", "cancelled"].includes(data.status)) break;
      await new Promise((r) => setTimeout(r, 3000));
    }

    if (data.failedCount === 0) break; // All done

    if (attempt < maxAttempts) {
      console.log(`Attempt ${attempt}: ${data.failedCount} failed. Retrying...`);
      await fetch(
        `https://api.spidra.io/api/batch/scrape/${batchId}/retry`,
        { method: "POST", headers: { "x-api-key": "YOUR_API_KEY" } }
      );
    }
  }

  // Fetch final state
  const final = await fetch(
    `https://api.spidra.io/api/batch/scrape/${batchId}`,
    { headers: { "x-api-key": "YOUR_API_KEY" } }
  );
  return (await final.json()).items;
}
