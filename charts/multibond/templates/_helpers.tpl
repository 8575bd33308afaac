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
