-- wrk's requests, all alike or with as many different targets as the argument says; ends with one line of JSON.
local requests, sent = {}, 0

init = function(arguments)
  for number = 1, tonumber(arguments[1]) do
    requests[number] = wrk.format("GET", number == 1 and "/" or "/items/" .. number .. "?page=" .. number % 7)
  end
  if #requests > 1 then
    request = function()
      sent = sent + 1
      return requests[sent % #requests + 1]
    end
  end
end

done = function(summary, latency, requests)
  io.write(string.format(
    '\n{"requests": %d, "duration_us": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d, ' ..
    '"p50_us": %d, "p90_us": %d, "p99_us": %d, "p999_us": %d, "max_us": %d}\n',
    summary.requests, summary.duration, summary.errors.connect, summary.errors.read, summary.errors.write,
    summary.errors.status, summary.errors.timeout, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency:percentile(99.9), latency.max))
end
