{{/* Labels of every object. */}}
{{- define "multibond.labels" -}}
app.kubernetes.io/name: multibond
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The user names that the API server gives to the controller and the agents. */}}
{{- define "multibond.controllerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Values.controller.serviceAccount.name }}
{{- end }}
{{- define "multibond.agentUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Values.agent.serviceAccount.name }}
{{- end }}

{{/*
The node of the agent that makes a request, as a variable of a policy: the API server writes it into the user's extra
fields for a token that is bound to a pod or a node. Empty for any other token.
*/}}
{{- define "multibond.agentNode" -}}
- name: node
  expression: request.userInfo.?extra[?'authentication.kubernetes.io/node-name'][?0].orValue('')
{{- end }}

{{/* CIDRs as a list of CEL values. */}}
{{- define "multibond.cidrs" -}}
{{- range $index, $cidr := . }}{{ if $index }}, {{ end }}cidr({{ $cidr | squote }}){{ end }}
{{- end }}

{{/* Whether a request changes the storage of a data center, as a match condition of a policy. */}}
{{- define "multibond.changesStorage" -}}
- name: changes-storage
  expression: request.operation == 'CREATE' || object.?spec.?storage != oldObject.?spec.?storage
{{- end }}

{{/*
The targets that an edit of a data center adds or changes, as variables of a policy: a list for each storage, of maps with
the target as it is `now` and, in a list, as it was `before`. An expression has a budget, which lasts for about 2,000 changed
targets; so an old target is looked for only in the storage of the same name.
*/}}
{{- define "multibond.changedTargets" -}}
- name: storage
  expression: object.?spec.?storage.orValue([])
- name: storageBefore
  expression: "request.operation == 'CREATE' ? dyn([]) : dyn(oldObject.?spec.?storage.orValue([]))"
- name: changedStorage
  expression: >-
    variables.storage.filter(storage, !(storage in variables.storageBefore)).map(storage, {
      'now': dyn(storage.?targets.orValue([])),
      'before': dyn(variables.storageBefore.filter(old, old.name == storage.name).map(old, old.?targets.orValue([])))})
- name: changedTargets
  expression: >-
    variables.changedStorage.map(storage, storage.now.map(target, {
        'now': dyn(target),
        'before': dyn(storage.before.size() == 0 ? dyn([]) : dyn(storage.before[0].filter(old, old.iqn == target.iqn)))})
      .filter(target, target.before.size() == 0 || target.before[0] != target.now))
{{- end }}

{{/* The binding that activates a policy. It applies everywhere, because each policy selects its users itself. */}}
{{- define "multibond.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "multibond.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end }}

{{/* The labels that select the pods, or the Service, of a component. They must never change. */}}
{{- define "multibond.selector" -}}
app.kubernetes.io/name: multibond
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "multibond.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The settings that the Pod Security Standard "restricted" requires, and a read-only file system. */}}
{{- define "multibond.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- define "multibond.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Annotations of an object that exists only at the end of `helm uninstall`; the argument is its weight in the order. */}}
{{- define "multibond.postDelete" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* Where a component listens: its own value, else that of all. The argument has `root` and the component's `values`. */}}
{{- define "multibond.listenAddress" -}}
{{- $address := .values.listenAddress | default .root.Values.listenAddress -}}
{{- if eq $address "PodIP" }}$(MULTIBOND_POD_IP){{ else }}{{ $address }}{{ end }}
{{- end }}

{{/*
The host that probes connect to. Kubelet takes the pod's address if there is none; that is right if the component listens
there or everywhere.
*/}}
{{- define "multibond.probeHost" -}}
{{- $address := .values.listenAddress | default .root.Values.listenAddress -}}
{{- if not (has $address (list "PodIP" "0.0.0.0" "[::]")) -}}
host: {{ trimAll "[]" $address | quote }}
{{- end }}
{{- end }}

{{/* The pod's address, as a variable of the environment, if the component listens there. */}}
{{- define "multibond.podIP" -}}
{{- if eq (.values.listenAddress | default .root.Values.listenAddress) "PodIP" -}}
- name: MULTIBOND_POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- end }}
{{- end }}
