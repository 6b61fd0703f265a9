-- wrk's requests; ends with one line of JSON. Arguments: method, target, targets, body bytes, close (0 or 1).
-- With several targets, each request differs from the last in its target and in the values of its headers.
local requests, sent = {}, 0

local function build_headers(number)
  return {
    ["Accept"] = "*/*",
    ["User-Agent"] = "bench/" .. number % 100,
    ["X-Request-Id"] = string.format("%08x-%08x", number * 2654435761 % 4294967296, number),
  }
end

init = function(arguments)
  local method, target, targets = arguments[1], arguments[2], tonumber(arguments[3])
  local length, is_closed = tonumber(arguments[4]), arguments[5] == "1"
  wrk.method, wrk.path = method, target
  wrk.body = length > 0 and string.rep("0123456789abcdef", length / 16) or nil
  for name, value in pairs(build_headers(1)) do wrk.headers[name] = value end
  if is_closed then wrk.headers["Connection"] = "close" end
  if targets > 1 then
    for number = 1, targets do
      for name, value in pairs(build_headers(number)) do wrk.headers[name] = value end
      requests[number] = wrk.format(method, "/items/" .. number .. "?page=" .. number % 7)
    end
    request = function()
      sent = sent + 1
      return requests[sent % targets + 1]
    end
  end
end

done = function(summary, latency)
  io.write(string.format(
    '\n{"requests": %d, "bytes": %d, "duration_us": %d, "connect": %d, "read": %d, "write": %d, "status": %d, ' ..
    '"timeout": %d, "p50_us": %d, "p90_us": %d, "p99_us": %d, "p999_us": %d, "max_us": %d}\n',
    summary.requests, summary.bytes, summary.duration, summary.errors.connect, summary.errors.read,
    summary.errors.write, summary.errors.status, summary.errors.timeout, latency:percentile(50),
    latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.max))
end
