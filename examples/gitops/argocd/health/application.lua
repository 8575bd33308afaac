-- The health of an Application, from its own status. Argo CD has no built-in check for Applications, so without this one a
-- wave of Applications would not wait for the previous wave.
local health = {status = "Progressing", message = "Waiting for the first comparison"}
local reported = obj.status and obj.status.health
if reported and reported.status then
  health.status = reported.status
  health.message = reported.message or ""
end
return health
