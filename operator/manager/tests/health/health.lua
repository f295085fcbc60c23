-- What Argo CD's built-in health check for CloneSets (resource_customizations/apps.kruise.io/CloneSet) decides, told anew.
-- It knows the fields of v1alpha1 only: `updateStrategy.partition`, where v1beta1 has `updateStrategy.rollingUpdate.partition`.
local set = ...
local status, strategy = set.status, set.spec.updateStrategy

if status == nil or status.observedGeneration ~= set.metadata.generation then
  return "Progressing"
end
if strategy.paused == true or status.updatedAvailableReplicas == nil then
  return "Suspended"
end
-- No partition is "not 0", too.
if set.metadata.generation > 1 and strategy.partition ~= 0 then
  local reached = status.updatedReplicas >= status.expectedUpdatedReplicas
  return reached and "Suspended" or "Progressing"
end
return status.updatedAvailableReplicas == status.replicas and "Healthy" or "Degraded"
