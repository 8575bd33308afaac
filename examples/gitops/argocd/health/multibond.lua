-- The health of DataCenter, Network, Host and IscsiBond: all four say it by their condition Ready.
-- Degraded ends a sync at once, and so it is for what waiting does not mend. What another object of the same sync may bring
-- is Progressing.
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
-- What it says of an earlier generation no longer counts.
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
