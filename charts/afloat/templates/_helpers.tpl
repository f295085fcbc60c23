{{- define "afloat.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "afloat.agentImage" -}}
{{ .Values.agent.image.repository | default .Values.image.repository }}:{{ .Values.agent.image.tag | default .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "afloat.replicas" -}}
{{ .Values.replicas | default (ternary 3 2 .Values.ha) }}
{{- end }}
