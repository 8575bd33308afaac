-- The health of DataCenter, Network, Host and IscsiBond, from the condition Ready.
-- Degraded fails a sync at once, so it is only for reasons that need a person. A problem that another object of the same sync
-- may solve is Progressing.
local degraded = {
  Frozen = true,
  HostsNonOperational = true,
  NetworkInOtherDataCenter = true,
  NoNetwork = true,
  NodeClaimed = true,
  PlanTooLarge = true,
  StorageUnreachable = true,
}

local health = {status = "Progressing", message = "Waiting for the controller"}
local status = obj.status
-- A status of an earlier generation is out of date.
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    health.message = condition.message
    if condition.status == "True" then
      health.status = "Healthy"
    elseif condition.status == "False" and degraded[condition.reason] then
      health.status = "Degraded"
    end
  end
end
return health
