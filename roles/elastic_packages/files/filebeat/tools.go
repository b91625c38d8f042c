//go:build tools

// Package tools keeps Filebeat among this module's requirements; nothing here is compiled.
package tools

import _ "github.com/elastic/beats/v7/filebeat"
