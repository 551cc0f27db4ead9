-- http-request lua.openclaw URL: asks a node of OpenClaw Edge about this request, by the HTTP client
-- that HAProxy has built in since 2.5. The answer stands in txn.openclaw_status, _ratelimit,
-- _policy and _retry; when there is none, nothing does. haproxy.cfg says what follows from it.

local wait = 500 -- milliseconds; a node answers from memory

-- What belongs to the request's connection and body, or is said by HAProxy and not the client.
local left_out = {
	["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["expect"] = true,
	["upgrade"] = true, ["te"] = true, ["host"] = true, ["x-original-uri"] = true, ["x-original-method"] = true,
	["x-forwarded-uri"] = true, ["x-forwarded-method"] = true,
}

core.register_action("openclaw", { "http-req" }, function(txn, url)
	local headers = {}
	for name, values in pairs(txn.http:req_get_headers()) do
		if not left_out[name] then
			headers[name] = {}
			for i = 0, #values do -- HAProxy counts them from 0
				table.insert(headers[name], values[i])
			end
		end
	end
	-- Appended: the node goes from the right end, so what the client wrote itself does not count.
	-- HAProxy has to be among the node's trusted_proxies, as 127.0.0.1 is by default.
	headers["x-forwarded-for"] = headers["x-forwarded-for"] or {}
	table.insert(headers["x-forwarded-for"], txn.f:src())
	headers["x-forwarded-uri"] = { txn.f:pathq() }
	headers["x-forwarded-method"] = { txn.f:method() }

	local answer = core.httpclient():get { url = url, headers = headers, timeout = wait }
	if not answer or not answer.headers or answer.status < 200 or answer.status > 501 then
		return -- 502 to 504: there is no node
	end
	txn:set_var("txn.openclaw_status", answer.status)
	for name, var in pairs { ["ratelimit"] = "ratelimit", ["ratelimit-policy"] = "policy", ["retry-after"] = "retry" } do
		if answer.headers[name] then
			txn:set_var("txn.openclaw_" .. var, answer.headers[name][0])
		end
	end
end, 1)
