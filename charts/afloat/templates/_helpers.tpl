{{- define "afloat.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "afloat.agentImage" -}}
{{ .Values.agent.image.repository | default .Values.image.repository }}:{{ .Values.agent.image.tag | default .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "afloat.replicas" -}}
{{ .Values.replicas | default (ternary 3 2 .Values.ha) }}
{{- end }}

{{/* Who converts between the versions of CloneSet. Nulls take away what an older definition has. */}}
{{- define "afloat.conversion" -}}
{{- if eq .Values.serve "both" -}}
strategy: Webhook
webhook:
  clientConfig:
    service:
      name: afloat-webhook
      namespace: {{ .Release.Namespace | quote }}
      path: /convert
      port: 443
    url: null
  conversionReviewVersions:
  - v1
{{- else -}}
strategy: None
webhook: null
{{- end -}}
{{- end -}}
