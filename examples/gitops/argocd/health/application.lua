-- The health of an Application, as it says itself. Argo CD has no check of its own for it, and a wave of Applications
-- would not wait for the one before.
local health = {status = "Progressing", message = "Waiting for the first comparison"}
local reported = obj.status and obj.status.health
if reported and reported.status then
  health.status = reported.status
  health.message = reported.message or ""
end
return health
